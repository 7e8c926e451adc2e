//! host-web
