//! The root authority of an offline root: a request goes out as a file, and a signed chain comes back.
