"""What TF1 programs use around the graph, each loaded when first used: `tf.app`, `tf.flags`, `tf.logging`, `tf.gfile`, `tf.io.gfile`,
`tf.resource_loader`, `tf.test`, `tf.config`."""
