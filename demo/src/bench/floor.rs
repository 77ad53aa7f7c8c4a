//! The floor: what the cryptography of one certificate costs on this machine, with nothing around it.

use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair,
    UnparsedPublicKey,
};

/// Rounds of one sample: about 60 ms.
const ROUNDS: u32 = 400;
/// Bytes that are signed: a CSR's body and a leaf's body have about this size.
const MESSAGE: [u8; 420] = [7; 420];

/// P-256 operations on one core, in microseconds; the medians of samples taken across the run.
#[derive(Debug)]
pub struct Floor {
    key: EcdsaKeyPair,
    randomness: SystemRandom,
    sign: Vec<f64>,
    verify: Vec<f64>,
}

impl Floor {
    /// Makes a key to measure with.
    ///
    /// # Errors
    /// If the system gives no randomness.
    pub fn new() -> anyhow::Result<Self> {
        let randomness = system_randomness();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &randomness)
            .map_err(|_| anyhow::anyhow!("the system gives no randomness"))?;
        let key = EcdsaKeyPair::from_pkcs8(
            &ECDSA_P256_SHA256_ASN1_SIGNING,
            document.as_ref(),
            &randomness,
        )
        .map_err(|error| anyhow::anyhow!("a fresh key is refused: {error}"))?;
        Ok(Self { key, randomness, sign: Vec::new(), verify: Vec::new() })
    }

    /// Measures once more; call it while nothing else runs.
    pub fn sample(&mut self) {
        let mut signature = self.key.sign(&self.randomness, &MESSAGE);
        let sign = time(|| signature = self.key.sign(&self.randomness, &MESSAGE));
        self.sign.push(sign);
        let Ok(signature) = signature else { return };
        let public =
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, self.key.public_key().as_ref());
        let mut good = true;
        self.verify.push(time(|| good &= public.verify(&MESSAGE, signature.as_ref()).is_ok()));
        debug_assert!(good, "a fresh signature verifies");
    }

    /// Verify a CSR, sign a certificate, verify the own signature.
    pub fn with_own_verify_us(&self) -> f64 {
        2.0 * median(&self.verify) + median(&self.sign)
    }

    /// Verify a CSR and sign a certificate.
    pub fn without_own_verify_us(&self) -> f64 {
        median(&self.verify) + median(&self.sign)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "ring signs with its own source only; nothing here is kept"
)]
fn system_randomness() -> SystemRandom {
    SystemRandom::new()
}

/// Mean CPU time of one call on this thread, in microseconds: CPU time, because the server is measured in it too, and
/// because others may be using the machine.
fn time(mut operation: impl FnMut()) -> f64 {
    let before = thread_cpu_us();
    (0..ROUNDS).for_each(|_| operation());
    (thread_cpu_us() - before) / f64::from(ROUNDS)
}

fn thread_cpu_us() -> f64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    now.tv_sec as f64 * 1e6 + now.tv_nsec as f64 / 1e3
}

fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
