"""OUT on disk: what a run needs besides the computation.

``folder`` names its files and refuses what is not a run; ``lock`` keeps it to one run at a
time; ``plan`` chooses area and tiles, ``memory`` says what they need; ``integrity`` keeps
checksums; ``progress`` shows what is done, on the terminal and in status.txt.
"""
