//! The CA process: gRPC services, authentication, authorization, issuance, ledger, admin.
