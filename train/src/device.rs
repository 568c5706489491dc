//! Translates the name of a device in a run file into a Burn device.

use anyhow::bail;
use burn::tensor::Device;
use config::Device as Choice;
use kernels::Precision;

#[cfg(any(feature = "wgpu", feature = "cuda"))]
use burn::tensor::DeviceType;

/// The devices of a run, and the name that is shown for them.
pub struct Selected {
    /// At least one, all of the same kind, with autodiff, so that models created on them can be
    /// trained. The first holds the weights; forward and backward passes are distributed over all.
    pub devices: Vec<Device>,
    /// As the run file spells it.
    pub name: &'static str,
}

impl Selected {
    /// The device that holds the weights.
    pub fn first(&self) -> &Device {
        &self.devices[0]
    }
}

/// `count` devices of a kind, at least one; `auto` takes the fastest kind that was compiled in and
/// is present.
///
/// # Errors
/// When the kind was not compiled in, or the machine has fewer of them.
pub fn select(choice: Choice, count: usize) -> anyhow::Result<Selected> {
    let (first, name) = default_of(choice)?;
    let devices = if count > 1 { several(name, first, count)? } else { vec![first] };
    Ok(Selected { devices: devices.into_iter().map(Device::autodiff).collect(), name })
}

/// The first device of a kind.
fn default_of(choice: Choice) -> anyhow::Result<(Device, &'static str)> {
    Ok(match choice {
        #[cfg(feature = "wgpu")]
        Choice::Wgpu if is_present(DeviceType::Wgpu) => (wgpu(), "wgpu"),
        #[cfg(feature = "wgpu")]
        Choice::Wgpu => bail!(
            "device = \"wgpu\": this machine has no graphics adapter; set it to \"auto\" or \"flex\""
        ),
        #[cfg(not(feature = "wgpu"))]
        Choice::Wgpu => return missing("wgpu"),
        #[cfg(feature = "cuda")]
        Choice::Cuda if is_present(DeviceType::Cuda) => (cuda(), "cuda"),
        #[cfg(feature = "cuda")]
        Choice::Cuda => bail!(
            "device = \"cuda\": this machine has no NVIDIA driver or no device; set it to \"auto\" or \
             \"flex\""
        ),
        #[cfg(not(feature = "cuda"))]
        Choice::Cuda => return missing("cuda"),
        #[cfg(feature = "ndarray")]
        Choice::Ndarray => (ndarray(), "ndarray"),
        #[cfg(not(feature = "ndarray"))]
        Choice::Ndarray => return missing("ndarray"),
        #[cfg(feature = "cuda")]
        Choice::Auto if is_present(DeviceType::Cuda) => (cuda(), "cuda"),
        #[cfg(feature = "wgpu")]
        Choice::Auto if has_adapter() => (wgpu(), "wgpu"),
        Choice::Auto | Choice::Flex => (Device::flex(), "flex"),
    })
}

/// The first `count` devices of a kind. The CPU with all its cores is a single device: all `count`
/// are the same one, which is not faster, but tests that a run file works.
fn several(name: &str, first: Device, count: usize) -> anyhow::Result<Vec<Device>> {
    let mut devices = match name {
        #[cfg(feature = "wgpu")]
        "wgpu" if has_adapter() => adapters(),
        #[cfg(feature = "wgpu")]
        "wgpu" => Device::enumerate(DeviceType::Wgpu).into_vec(),
        #[cfg(feature = "cuda")]
        "cuda" => Device::enumerate(DeviceType::Cuda).into_vec(),
        _ => vec![first; count],
    };
    let present = devices.len();
    if present < count {
        bail!("train.devices = {count}: this machine has {present} of the kind {name}");
    }
    devices.truncate(count);
    Ok(devices)
}

/// The device that `auto` takes on this machine.
///
/// # Errors
/// When the device that `auto` stands for cannot be used.
pub fn auto_name() -> anyhow::Result<&'static str> {
    default_of(Choice::Auto).map(|(_, name)| name)
}

/// Whether training can run on a device.
///
/// # Errors
/// When it cannot; the error says what is missing.
pub fn check(choice: Choice) -> anyhow::Result<()> {
    select(choice, 1).map(drop)
}

/// The number format of matrix products that `[train]` asks for, on a device.
///
/// # Errors
/// When that device computes in f32 only.
pub fn precision(settings: &config::Train, device: &Selected) -> anyhow::Result<Precision> {
    let fused = settings.kernels == config::Kernels::Fused;
    let has_bf16 = fused && kernels::multiplies_bf16(device.first());
    match settings.precision {
        config::Precision::F32 => Ok(Precision::F32),
        config::Precision::Auto if has_bf16 => Ok(Precision::Bf16),
        config::Precision::Auto => Ok(Precision::F32),
        // The CPU always can, but slowly.
        config::Precision::Bf16 if has_bf16 || fused && device.name == "flex" => {
            Ok(Precision::Bf16)
        }
        config::Precision::Bf16 if fused => bail!(
            "train.precision = \"bf16\": {} computes in f32 only on this machine; set it to \"auto\"",
            device.name
        ),
        config::Precision::Bf16 => bail!(
            "train.precision = \"bf16\" needs train.kernels = \"fused\": plain operations compute in f32"
        ),
    }
}

/// The name of a number format in a run file.
pub fn precision_name(precision: Precision) -> &'static str {
    match precision {
        Precision::F32 => "f32",
        Precision::Bf16 => "bf16",
    }
}

/// The message for a run that is resumed in another number format than `recorded`: the bits of its
/// weights will differ from those of an uninterrupted run.
pub fn precision_changed(recorded: &str, precision: Precision) -> Option<String> {
    let now = precision_name(precision);
    (!recorded.is_empty() && recorded != now).then(|| {
        format!(
            "the run was in {recorded} and goes on in {now}; train.precision = {recorded:?} keeps \
             it as it was"
        )
    })
}

#[cfg(feature = "wgpu")]
fn wgpu() -> Device {
    Device::wgpu(burn::tensor::DeviceKind::DefaultDevice)
}

#[cfg(feature = "cuda")]
fn cuda() -> Device {
    Device::cuda(burn::tensor::DeviceIndex::Default)
}

/// Whether there is a device of this kind. Opening a missing device panics; listing the devices
/// does not.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn is_present(kind: DeviceType) -> bool {
    Device::enumerate(kind).into_iter().next().is_some()
}

/// The graphics adapters without the drivers that compute on the CPU: those exist for tests and
/// take minutes where Flex takes seconds.
#[cfg(feature = "wgpu")]
fn adapters() -> Vec<Device> {
    let software = Device::wgpu(burn::tensor::DeviceKind::Cpu);
    let all = Device::enumerate(DeviceType::Wgpu).into_vec();
    all.into_iter().filter(|device| *device != software).collect()
}

#[cfg(feature = "wgpu")]
fn has_adapter() -> bool {
    !adapters().is_empty()
}

#[cfg(feature = "ndarray")]
#[expect(deprecated, reason = "kept selectable for comparison; Flex is its successor")]
fn ndarray() -> Device {
    Device::ndarray()
}

#[cfg(not(all(feature = "wgpu", feature = "ndarray", feature = "cuda")))]
fn missing(name: &str) -> anyhow::Result<(Device, &'static str)> {
    bail!(
        "device = {name:?} was not compiled in; build with --features {name}, or set device to \
         \"flex\" or \"auto\""
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_says_what_it_took() {
        assert!(["flex", "wgpu", "cuda"].contains(&select(Choice::Auto, 1).unwrap().name));
        assert!(select(Choice::Flex, 2).unwrap().devices.iter().all(Device::is_autodiff));
    }

    #[test]
    fn a_change_of_precision_is_said() {
        assert_eq!(precision_changed("", Precision::Bf16), None);
        assert_eq!(precision_changed("bf16", Precision::Bf16), None);
        let note = precision_changed("bf16", Precision::F32).unwrap();
        assert!(note.contains("in bf16 and goes on in f32"), "{note}");
    }

    #[test]
    fn plain_operations_are_in_f32() {
        use config::{Kernels, Train};
        let flex = select(Choice::Flex, 1).unwrap();
        let of = |format| {
            precision(
                &Train { precision: format, kernels: Kernels::Plain, ..Train::default() },
                &flex,
            )
        };
        assert_eq!(of(config::Precision::Auto).unwrap(), Precision::F32);
        let error = of(config::Precision::Bf16).unwrap_err().to_string();
        assert!(error.contains("train.kernels = \"fused\""), "{error}");
    }

    #[cfg(not(feature = "ndarray"))]
    #[test]
    fn what_is_not_compiled_in_is_refused_with_the_feature() {
        let error = select(Choice::Ndarray, 1).err().unwrap().to_string();
        assert!(error.contains("--features ndarray"), "{error}");
    }
}
