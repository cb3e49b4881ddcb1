"""What the tasks share: models and archives, word pieces, features, the fine-tuning loop, metrics, command-line options.

The modules, each importing only from those before it: ``pieces`` (text to ids, none of it special), ``features`` (inputs of
the model, windows), ``reading`` (data files whose errors name the line), ``metrics``, ``settings``, ``heads`` (two that
transformers lacks) (its errors), ``archive`` (the published layout), ``convert`` (to transformers and back),
``loading`` (models and checkpoints), ``whole`` (a pre-trained model with its predictors), ``task`` (what a task says of
itself), ``loggers``, ``steps`` (one step of fine-tuning), ``learner`` (the run), ``evaluation``, ``launching`` (processes),
``options`` (of the command line), ``run`` (a command's work), ``tiny`` (a small random model), ``model_commands``.
"""
