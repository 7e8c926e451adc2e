//! Long work as cursor machines. Floor 4.
