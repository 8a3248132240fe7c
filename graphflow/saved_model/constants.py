"""Names of the files and collections of a saved model."""

ASSETS_DIRECTORY, ASSETS_KEY = "assets", "saved_model_assets"
LEGACY_INIT_OP_KEY, MAIN_OP_KEY, TRAIN_OP_KEY = "legacy_init_op", "saved_model_main_op", "saved_model_train_op"
SAVED_MODEL_FILENAME_PB, SAVED_MODEL_FILENAME_PBTXT, SAVED_MODEL_SCHEMA_VERSION = "saved_model.pb", "saved_model.pbtxt", 1
VARIABLES_DIRECTORY, VARIABLES_FILENAME = "variables", "variables"
