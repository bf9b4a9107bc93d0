//! fcam
