"""What every training method stands on: the registry, the loop's state, devices, checkpoints, metrics.

Method: a typed config, a card and a recipe. Recipe: a function that reads top to bottom; its loops are its own. Stage:
one loop of a recipe, which resumes by itself. Preset: a named set of config values, "paper" and "small".
"""
