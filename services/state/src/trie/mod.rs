//! The packed time trie.

pub mod blocks;
pub mod insert;
