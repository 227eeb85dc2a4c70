pub mod simulated;
