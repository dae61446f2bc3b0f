"""All that knows NNI: searches launched as NNI experiments and watched in its web page. Nothing else imports it."""
