"""The runtimes, one module each; `course.engine.registry` says what such a module has."""
