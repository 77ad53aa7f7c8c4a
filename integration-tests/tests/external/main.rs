//! Rotations onto the roots of real CAs of other projects, and away from them, while everybody talks.

mod step_ca;
