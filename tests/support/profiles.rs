//! Accounts with profiles, and their logins.

use super::env::TestEnv;
use super::sample::{alice, bob};
use super::sign_in::write_auth;
use age::secrecy::ExposeSecret;
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

/// Creates an environment with two profiles: `work` of Alice, who is signed in, and `home` of Bob.
pub(crate) fn alice_and_bob() -> TestEnv {
    let env = TestEnv::new();
    save_alice_and_bob(&env);
    env
}

/// Saves Bob as `home` and Alice as `work`, and leaves Alice signed in.
pub(crate) fn save_alice_and_bob(env: &TestEnv) {
    for (name, login) in [("home", bob()), ("work", alice(0))] {
        write_auth(&env.codex_home(), &login);
        let _ = env.run(["profile", "save", name]).code(0);
    }
}

/// Writes the age key of this test run to `key.txt`, and returns its public key. Tests use a key
/// because the key derivation of a passphrase is slow.
pub(crate) fn write_age_key(env: &TestEnv) -> String {
    static KEY: OnceLock<age::x25519::Identity> = OnceLock::new();
    let key = KEY.get_or_init(age::x25519::Identity::generate);
    env.write("key.txt", key.to_string().expose_secret());
    key.to_public().to_string()
}

/// Returns the folder of a profile.
pub(crate) fn folder(env: &TestEnv, name: &str) -> PathBuf {
    env.manager_home().join("profiles").join(name)
}

/// Returns the `auth.json` of a profile.
#[track_caller]
pub(crate) fn profile_login(env: &TestEnv, name: &str) -> String {
    fs::read_to_string(folder(env, name).join("auth.json")).expect("a login")
}

/// Returns the live `auth.json`.
#[track_caller]
pub(crate) fn live_login(env: &TestEnv) -> String {
    fs::read_to_string(env.codex_home().join("auth.json")).expect("a login")
}

/// Returns the JSON of `profile show`.
#[track_caller]
pub(crate) fn shown(env: &TestEnv, name: &str) -> Value {
    env.run(["profile", "show", name, "--json"]).code(0).json()
}

/// Returns the location of the owner copy of a profile's login, from `profile show`.
#[track_caller]
pub(crate) fn owner(env: &TestEnv, name: &str) -> String {
    let owner = shown(env, name)["owner"].clone();
    owner.as_str().expect("text").to_owned()
}
