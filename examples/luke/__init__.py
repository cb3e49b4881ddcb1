"""Code that the tasks share: models and archives, the tokenizer, features, fine-tuning, metrics, command-line options.

The modules, each importing only from those before it: ``tokenizer`` (text to ids, without special tokens), ``features``
(inputs of the model, windows), ``reading`` (data files, with errors that name the line), ``metrics``, ``settings``, ``heads``
(two that transformers lacks), ``archive`` (the published layout), ``convert`` (to transformers and back), ``loading`` (models
and checkpoints), ``pretrained`` (a pre-trained model with both heads), ``task`` (the interface of a task), ``loggers``,
``steps`` (one step of fine-tuning), ``learner`` (the run), ``evaluation``, ``launching`` (processes), ``options`` (of the
command line), ``run`` (runs a task), ``tiny`` (a small random model), ``model_commands``.
"""
