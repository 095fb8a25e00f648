"""Where the numbers of a run are shown: one small interface to TensorBoard, W&B, MLflow and Trackio.

    base         Logger, Loggers, open_loggers: several at once, each beside the steps; one that fails is tried again
    tensorboard  files in the run's folder
    wandb        Weights & Biases, offline where nobody is logged in
    mlflow       files in the run's folder, or the server that MLFLOW_TRACKING_URI names
    trackio      Trackio's own database

A plugin adds one of its own: `tips_bench.registry.LOGGERS.add("mine", "my_package.loggers:MyLogger")`.
"""
