"""Which images people should look at: selection over what models said about a corpus.

A *row* is an image of the corpus. `mad` selects the images on which two classifiers disagree most, under caps;
`control` draws random rows. `gmad` selects pairs of images on which an attacker would falsify a defender, among
quality models that `calibration` has put on a common scale, and random pairs beside them. Nothing here knows of
databases, users or files: arrays in, arrays out. All but `control` need numba.
"""
