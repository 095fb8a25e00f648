"""Records in the formats of others, so that a number can leave tips-bench without losing its interval or its conditions.

hugging_face     `.eval_results` files and `model-index` of a model repository on the Hugging Face Hub
every_eval_ever  the JSON files of Every Eval Ever's store of evaluations
sheet            a row a model, a column a task, as MTEB's tables of results
logged           W&B, MLflow, Trackio, TensorBoard
files            which files an export writes, and which records may leave
"""
