"""What TF1 programs use around the graph: `tf.app`, `tf.flags`, `tf.logging`, `tf.gfile`, `tf.test`; each loaded when first used."""
