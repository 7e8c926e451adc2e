//! What was changed and is not on media yet. Floor 2.
