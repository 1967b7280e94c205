//! The PostgreSQL store against a real server of its own.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test may panic")]

use std::os::unix::fs::PermissionsExt;

use actors::store::{Store, contract};
use device_profiles::FacilityId;
use hub::store::{PgStore, PrivateServer};

#[actix_rt::test]
async fn postgres_keeps_the_contract_and_survives_a_kill() {
    // A directory that another user may enter: PostgreSQL does not run as root.
    let dir = tempfile::Builder::new().prefix("sf").tempdir_in("/var/tmp").unwrap();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o711)).unwrap();
    let server = PrivateServer::ensure(dir.path()).await.unwrap();
    let store = PgStore::open(server.options()).await.unwrap();
    sqlx::query("INSERT INTO facility (id, name, shard) VALUES ('f1', 'Test', 0)")
        .execute(store.pool())
        .await
        .unwrap();
    contract::check(&store, &FacilityId::parse("f1").unwrap(), 0).await.unwrap();

    let pid = std::fs::read_to_string(dir.path().join("postgres/data/postmaster.pid")).unwrap();
    let pid = rustix::process::Pid::from_raw(pid.lines().next().unwrap().parse().unwrap()).unwrap();
    // Whoever comes next attaches to the running server.
    PrivateServer::ensure(dir.path()).await.unwrap();
    assert!(rustix::process::test_kill_process(pid).is_ok());
    // The commits above did not wait for the disk; make them safe before pulling the plug.
    sqlx::query("CHECKPOINT").execute(store.pool()).await.unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    drop(store);
    // Recovery after kill -9: stale locks cleared, same rows.
    let back = PrivateServer::ensure(dir.path()).await.unwrap();
    let store = PgStore::open(back.options()).await.unwrap();
    assert_eq!(store.position(0).await.unwrap().unwrap().offset, 210);
    drop(store);
    back.stop().unwrap();
}

#[actix_rt::test]
async fn another_major_version_is_refused_by_name() {
    let dir = tempfile::Builder::new().prefix("sf").tempdir_in("/var/tmp").unwrap();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o711)).unwrap();
    std::fs::create_dir_all(dir.path().join("postgres/data")).unwrap();
    std::fs::write(dir.path().join("postgres/made-by"), "9").unwrap();
    let error = PrivateServer::ensure(dir.path()).await.unwrap_err().to_string();
    assert!(error.contains("made by PostgreSQL 9") && error.contains("pg_upgrade"), "{error}");
}
