"""Reports, audit pages and model cards from saved tables, without audio or TensorFlow."""
