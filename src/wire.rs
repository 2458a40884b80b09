//! Values and frames between the worker and its parent.
