"""The command line: parse, call one function, print. Heavy imports happen inside commands.

:mod:`~hyperhpc.cli.main`
    Entry point, signals, exit codes, and the one place where errors are printed.
:mod:`~hyperhpc.cli.commands`
    The group of all commands, ``run`` and ``plan``, and commands about this installation.
:mod:`~hyperhpc.cli.scene_commands`, :mod:`~hyperhpc.cli.run_commands`
    Commands that read or write scenes, and commands that read the folder of a run.
:mod:`~hyperhpc.cli.options`
    Options of commands, made from the table in :mod:`hyperhpc.config`.
:mod:`~hyperhpc.cli.output`
    What several commands print.
"""
