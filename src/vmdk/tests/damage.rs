//! Files that are cut, flipped or lie.
