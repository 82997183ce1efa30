//! `foveal devices`: lists the devices that foveal can compute on, and tests them.

use anyhow::Result;
use burn::tensor::Device;
use foveal_base::printable;
use foveal_detector::ComputePrecision;
use serde::Serialize;

use crate::args::DevicesArgs;
use crate::device::{self, AdapterInfo, AdapterKind, Capabilities, SelfTest, self_test};
use crate::failure::{DONE, FAILED};
use crate::output;
use crate::outputs::Files;

const GIB: f64 = (1u64 << 30) as f64;

/// The output of `--json`.
#[derive(Debug, Default, Serialize)]
pub(super) struct Listing {
    devices: Vec<Entry>,
}

/// A device.
#[derive(Debug, Serialize)]
struct Entry {
    /// The value of `--device` that selects it.
    device: String,
    /// What it is.
    #[serde(flatten)]
    about: About,
    /// The values of `train.precision` that it supports; empty if it could not be opened.
    precisions: Vec<&'static str>,
    /// Why it could not be opened; `null` if it was.
    error: Option<String>,
    /// The result of `--test`; `null` without the option or if it could not be opened.
    test: Option<SelfTest>,
}

/// The properties of the two kinds of devices.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum About {
    /// A CPU backend.
    Cpu {
        #[serde(rename = "type")]
        kind: &'static str,
        /// Name of the backend.
        name: &'static str,
        /// Number of computation threads.
        threads: usize,
        /// Vector instructions that foveal's kernels use.
        simd: &'static str,
        /// Bytes of the main memory; `null` if the system does not state it.
        memory_bytes: Option<u64>,
        /// Bytes of the main memory that are free; `null` if the system does not state it.
        free_memory_bytes: Option<u64>,
    },
    /// An adapter of a graphics API.
    Adapter {
        #[serde(flatten)]
        info: AdapterInfo,
        #[serde(flatten)]
        can: Option<Capabilities>,
    },
}

/// Lists the devices, and tests them with `--test`.
///
/// # Errors
/// If the output cannot be written.
pub(super) fn run(args: &DevicesArgs) -> Result<u8> {
    Files::new().write("--json", &args.json).check()?;
    let listing = list(args.test);
    output::emit(args.json.as_deref(), &listing, &listing.table())?;
    Ok(if listing.has_failure() { FAILED } else { DONE })
}

/// Opens all devices, and tests them if `test` is set.
pub(super) fn list(test: bool) -> Listing {
    let mut devices: Vec<Entry> = [("flex", device::flex()), ("ndarray", device::ndarray())]
        .map(|(name, device)| entry(name.to_owned(), cpu(name), Some(&device), test))
        .into();
    device::keep_tuning();
    for (index, adapter) in device::adapters("wgpu").into_iter().enumerate() {
        let name = format!("wgpu:{index}");
        let info = adapter.info.clone();
        devices.push(match adapter.open() {
            Ok(device::Opened { device, can }) => {
                entry(name, About::Adapter { info, can: Some(can) }, Some(&device), test)
            }
            Err(error) => Entry {
                error: Some(format!("{error:#}")),
                ..entry(name, About::Adapter { info, can: None }, None, test)
            },
        });
    }
    Listing { devices }
}

impl Listing {
    /// Whether a device has failed its test.
    pub(super) fn has_failure(&self) -> bool {
        self.devices.iter().any(|entry| entry.test.as_ref().is_some_and(SelfTest::is_failure))
    }

    /// The adapters that could be opened and are not software.
    pub(super) fn gpus(&self) -> impl Iterator<Item = &AdapterInfo> {
        self.devices.iter().filter_map(|entry| match &entry.about {
            About::Adapter { info, can: Some(_) } if info.kind != AdapterKind::Software => Some(info),
            _ => None,
        })
    }

    /// The listing as text.
    pub(super) fn table(&self) -> String {
        table(self)
    }
}

fn cpu(name: &'static str) -> About {
    let memory = device::main_memory();
    About::Cpu {
        kind: "cpu",
        name,
        threads: rayon::current_num_threads(),
        simd: foveal_nn::instruction_set(),
        memory_bytes: memory.map(|memory| memory.total),
        free_memory_bytes: memory.map(|memory| memory.free),
    }
}

/// The entry of a device, which is `None` if it could not be opened.
fn entry(name: String, about: About, device: Option<&Device>, test: bool) -> Entry {
    let precisions = [ComputePrecision::F32, ComputePrecision::F16, ComputePrecision::Bf16];
    let supported = |device: &Device| {
        precisions
            .iter()
            .filter(|precision| precision.check(device).is_ok())
            .map(|precision| precision.name())
            .collect()
    };
    Entry {
        device: name,
        about,
        precisions: device.map(supported).unwrap_or_default(),
        error: None,
        test: device.filter(|_| test).map(self_test),
    }
}

/// The output on stdout.
fn table(listing: &Listing) -> String {
    let mut text = String::new();
    for Entry { device, about, precisions, error, test } in &listing.devices {
        let (title, facts) = match about {
            About::Cpu { threads, simd, memory_bytes, free_memory_bytes, .. } => {
                let mut facts = vec![format!("{threads} threads, {simd} kernels")];
                if let (Some(total), Some(free)) = (memory_bytes, free_memory_bytes) {
                    facts.push(format!("memory {}, of which {} are free", gib(*total), gib(*free)));
                }
                ("CPU".to_owned(), facts)
            }
            About::Adapter { info, can } => {
                let mut facts = vec![format!("{}, driver {}", info.api, printable(&info.driver))];
                if let Some(can) = can {
                    let memory = can.memory_bytes.map_or("not stated by the driver".to_owned(), gib);
                    facts.push(format!("kernels compiled to {}, memory {memory}", can.compiler));
                    facts.push(format!(
                        "largest buffer {}, largest binding {}",
                        gib(can.largest_buffer_bytes),
                        gib(can.largest_binding_bytes)
                    ));
                }
                let marked = match info.kind {
                    AdapterKind::Software => "software adapter: computes on the CPU, for tests only",
                    kind => kind.name(),
                };
                (format!("{} ({marked})", printable(&info.name)), facts)
            }
        };
        text += &format!("{device:<9} {title}\n");
        let precisions = (!precisions.is_empty()).then(|| format!("precisions {}", precisions.join(", ")));
        let error = error.as_ref().map(|error| format!("cannot be used: {}", printable(error)));
        let test = test.as_ref().map(|test| format!("self test {}", printable(&test.text())));
        for fact in facts.into_iter().chain(precisions).chain(error).chain(test) {
            text += &format!("          {fact}\n");
        }
    }
    text
}

fn gib(bytes: u64) -> String {
    format!("{:.2} GiB", bytes as f64 / GIB)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter(kind: AdapterKind, can: Option<Capabilities>) -> About {
        let info =
            AdapterInfo { name: "Card".to_owned(), kind, driver: "maker 1.2".to_owned(), api: "Vulkan".to_owned() };
        About::Adapter { info, can }
    }

    #[test]
    fn an_adapter_is_described_with_its_limits_and_its_test() {
        let can = Capabilities {
            compiler: "SPIR-V".to_owned(),
            memory_bytes: Some(80 << 30),
            largest_buffer_bytes: 1 << 40,
            largest_binding_bytes: (2 << 30) - 1,
        };
        let entry = Entry {
            device: "wgpu:0".to_owned(),
            about: adapter(AdapterKind::DiscreteGpu, Some(can)),
            precisions: vec!["f32", "f16"],
            error: None,
            test: Some(SelfTest::Passed { largest_difference: 2.5e-7, seconds: 1.25 }),
        };
        let listing = Listing { devices: vec![entry] };
        assert_eq!(
            table(&listing),
            "wgpu:0    Card (discrete GPU)\n          Vulkan, driver maker 1.2\n          kernels compiled to SPIR-V, memory \
             80.00 GiB\n          largest buffer 1024.00 GiB, largest binding 2.00 GiB\n          precisions f32, f16\n          \
             self test passed in 1.2 s, largest difference 2.5e-7\n"
        );
        let json = serde_json::to_value(&listing).unwrap();
        let first = &json["devices"][0];
        assert_eq!((&first["type"], &first["compiler"]), (&"discrete_gpu".into(), &"SPIR-V".into()));
        assert_eq!(first["largest_binding_bytes"], 2_147_483_647u64);
        assert_eq!(first["test"]["result"], "passed");
        assert_eq!(first["error"], serde_json::Value::Null);
    }

    #[test]
    fn an_adapter_that_cannot_be_opened_is_listed_with_the_reason() {
        let entry = Entry {
            device: "wgpu:1".to_owned(),
            about: adapter(AdapterKind::Software, None),
            precisions: Vec::new(),
            error: Some("cannot open the device Card, Vulkan: refused".to_owned()),
            test: None,
        };
        let text = table(&Listing { devices: vec![entry] });
        assert!(text.contains("software adapter") && text.contains("cannot be used: cannot open"), "{text}");
    }
}
