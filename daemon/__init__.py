"""The application: HTTP, schedule, trainers, command line. It wires plora, policies and storage and decides nothing."""
