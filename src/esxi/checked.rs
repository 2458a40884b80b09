//! Objects that have passed the door.
//!
//! A client's methods take a [`Checked`] object, never a raw managed object reference. Only `door/` makes one: the constructor is on
//! clippy's list of disallowed methods everywhere else, and a test of the sources holds it there.

/// An object that the door has resolved and allowed for one operation.
#[derive(Debug)]
pub struct Checked<T>(T);

impl<T> Checked<T> {
    /// Vouches that the capability tables allow this object for the operation under way. The door's alone.
    pub fn by_the_door(object: T) -> Self {
        Self(object)
    }
}

impl<T> std::ops::Deref for Checked<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}
