//! What a person types: arguments become a run, a workflow, a query; results become text.

pub mod output;
