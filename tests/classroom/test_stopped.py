"""Who stops a command with Ctrl-C reads how it goes on."""

from __future__ import annotations

import sys
import types

from autograder.__main__ import run


def test_a_command_that_is_stopped_says_how_it_goes_on(monkeypatch, capsys) -> None:
    def stopped(argv: list[str]) -> int:
        raise KeyboardInterrupt

    module = types.ModuleType("stopped_command")
    module.main = stopped
    monkeypatch.setitem(sys.modules, "stopped_command", module)
    assert run("stopped_command", []) == 130
    assert "the same command goes on" in capsys.readouterr().err
