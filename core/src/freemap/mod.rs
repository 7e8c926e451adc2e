//! The block allocator. Floor 4.
