//! The root authority of a step-ca: intermediates through a provisioner whose template allows them.
