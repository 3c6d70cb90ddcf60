//! What must hold for any bytes. The fuzzer calls these, and `aot-compiler/tests/corpus.rs` with the inputs that it kept, on
//! stable Rust.

use aot_compiler::{intake, prepare::prepare};
use artifact::{
    compile::RefusalCode,
    container::Container,
    dsse::Envelope,
    keys::{SecretKey, Trusted},
    statement::{STATEMENT_TYPE, Statement, TrustedStatement},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use wasmparser::Validator;

/// Native code that is unpacked here at most.
const UNPACKED_BYTES_MAX: u64 = 1 << 20;
/// Words of a refusal.
const MESSAGE_BYTES_MAX: usize = 1_000;

/// An upload: refused in words, or admitted; and what is valid stays valid when it is prepared.
pub fn upload(bytes: &[u8]) {
    if let Err(refusal) = intake::admit(bytes) {
        assert_ne!(refusal.code, RefusalCode::Internal, "{}", refusal.message);
        assert!(refusal.message.len() < MESSAGE_BYTES_MAX, "{}", refusal.message);
    }
    let is_valid =
        |wasm: &[u8]| Validator::new_with_features(engine::wasm_features()).validate_all(wasm).is_ok();
    if is_valid(bytes) {
        // wasmparser lets a component end within a nested one, which is not admitted for want of what a lane asks.
        match prepare(bytes) {
            Ok(prepared) => assert!(is_valid(&prepared), "it is not valid any more"),
            Err(refusal) => assert!(intake::admit(bytes).is_err(), "admitted: {}", refusal.message),
        }
    }
}

/// A blob, and a statement: nothing that was not signed is trusted, and what reads as a statement writes as the same.
pub fn blob(bytes: &[u8]) {
    let trusted = || Trusted::new([SecretKey::from_seed([7; 32]).public()]);
    if let Ok(container) = Container::decode(bytes) {
        assert!(TrustedStatement::open(&container.envelope, &trusted()).is_err(), "nobody signed it");
        let mut native = Vec::new();
        if let Ok(unpacked) = container.decompress(UNPACKED_BYTES_MAX, &mut native) {
            assert!(unpacked <= UNPACKED_BYTES_MAX + 1);
        }
    }
    let envelope = format!(
        "{{\"payload\":\"{}\",\"payloadType\":\"{STATEMENT_TYPE}\",\"signatures\":[]}}",
        STANDARD.encode(bytes)
    );
    let Ok(envelope) = Envelope::from_json(envelope.as_bytes()) else { return };
    assert!(TrustedStatement::open(&envelope, &trusted()).is_err(), "nobody signed it");
    if let Ok(statement) = Statement::unchecked(&envelope) {
        let again = serde_json::to_vec(&statement).expect("a statement is text");
        assert_eq!(serde_json::from_slice::<Statement>(&again).expect("it reads"), statement);
    }
}
