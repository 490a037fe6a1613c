"""The API contract: what the course uses of TensorRT exists in 8.6, 10.16 and 11.4, or is not reached there.

wheels.py, dump.py    the real bindings of each version, imported over empty libraries, as JSON
api.py                questions to such a JSON: attributes, types, signatures
values.py, scope.py   what can be known about a value, a variable, a function of the checked program
memory.py < attributes.py < expressions.py < calls.py < definitions.py < statements.py < checker.py
                      one class in layers, which visits the program with the eyes of one version
planted.txt           code that the checker must find wrong, or right
"""
