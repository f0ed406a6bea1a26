"""From the sample to models that label pixels.

``sums`` adds over the sample, and ``starts``, ``estimators`` and ``fitting`` make the models of
it; ``applied`` is a model of another run, and ``models`` label pixels by either.
"""
