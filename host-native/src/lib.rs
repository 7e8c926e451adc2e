//! host-native
