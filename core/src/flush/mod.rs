//! From memory to media. Floor 7.
