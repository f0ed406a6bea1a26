"""The command line: parse, call one function, print. Heavy imports happen inside commands.

==============  ========================================================================
main            entry point, signals, exit codes; the one place where errors are printed
commands        the group of all commands, ``run`` and ``plan``, this installation
scene_commands  commands that read or write scenes
run_commands    commands that read the folder of a run
options         options of commands, made from the table in :mod:`hyperhpc.config`
output          what several commands print
==============  ========================================================================
"""
