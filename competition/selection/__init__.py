"""Which images people should look at: selection over what models said about a corpus.

A *row* is an image of the corpus; a *pair* is two models i < j (by their position in the input). `mad` selects the
images on which two classifiers disagree most, under caps; `control` draws random rows. Nothing here knows of databases,
users or files: arrays in, arrays out. `mad` needs numba, `control` only numpy.
"""
