//! Service → pod → port, as kubectl chooses them.

use k8s_openapi::api::core::v1::{Container, Pod, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// The selector of a Service, as the API server wants it; `None` where it selects no pods.
pub(super) fn selector(service: &Service) -> Option<String> {
    let labels = service.spec.as_ref()?.selector.as_ref().filter(|labels| !labels.is_empty())?;
    let labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    Some(labels.join(","))
}

/// The first port of a Service, as kubectl and the Hubble CLI take it.
pub(super) fn service_port(service: &Service) -> Option<&ServicePort> {
    service.spec.as_ref()?.ports.as_ref()?.first()
}

/// Whether a port of the relay's Service stands for TLS, as Cilium's chart writes it; `None`: it says
/// nothing.
pub(super) fn stands_for_tls(port: i32) -> Option<bool> {
    match port {
        443 => Some(true),
        80 => Some(false),
        _ => None,
    }
}

/// The best pod: running, ready, not about to go; ready for longest. `not` is taken only when it is the
/// only one.
pub(super) fn best<'a>(pods: &'a [Pod], not: Option<&str>) -> Option<&'a Pod> {
    let mut good: Vec<&Pod> = pods.iter().filter(|pod| is_good(pod)).collect();
    good.sort_by_key(|pod| {
        (pod.metadata.name.as_deref() == not, ready_since(pod), pod.metadata.name.clone())
    });
    good.into_iter().next()
}

/// Why none of these pods will do.
pub(super) fn why_none(pods: &[Pod]) -> String {
    if pods.is_empty() {
        return "it selects no pods".to_owned();
    }
    let states: Vec<String> = pods
        .iter()
        .take(5)
        .map(|pod| {
            let name = pod.metadata.name.as_deref().unwrap_or("?");
            let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or("unknown");
            let state = match () {
                () if pod.metadata.deletion_timestamp.is_some() => "terminating".to_owned(),
                () if phase == "Running" => "running, not ready".to_owned(),
                () => phase.to_owned(),
            };
            format!("{name} is {state}")
        })
        .collect();
    states.join(", ")
}

/// The port of a pod that a Service's port leads to; the error names what is missing.
pub(super) fn target_port(port: &ServicePort, pod: &Pod) -> Result<u16, String> {
    let number = match &port.target_port {
        None => port.port,
        Some(IntOrString::Int(number)) if *number != 0 => *number,
        Some(IntOrString::Int(_)) => port.port,
        Some(IntOrString::String(name)) => {
            let spec = pod.spec.as_ref();
            let sidecars = spec.and_then(|s| s.init_containers.as_deref()).unwrap_or_default();
            let all = spec.map(|s| s.containers.as_slice()).unwrap_or_default().iter().chain(sidecars);
            let found = all
                .flat_map(|container: &Container| container.ports.as_deref().unwrap_or_default())
                .find(|port| port.name.as_deref() == Some(name));
            match found {
                Some(port) => port.container_port,
                None => {
                    return Err(format!(
                        "its port leads to a port named {name:?}, which pod {} does not have",
                        pod.metadata.name.as_deref().unwrap_or("?")
                    ));
                }
            }
        }
    };
    u16::try_from(number).ok().filter(|n| *n != 0).ok_or_else(|| format!("its port {number} is no port"))
}

/// The version of Cilium that a relay's pod belongs to: the tag of its image.
pub(super) fn version(pod: &Pod) -> Option<String> {
    let images = pod.spec.as_ref()?.containers.iter().filter_map(|c| c.image.as_deref());
    let image =
        images.clone().find(|image| image.contains("hubble-relay")).or_else(|| images.clone().next())?;
    let name = image.split('@').next()?.rsplit('/').next()?;
    name.split_once(':').map(|(_, tag)| tag.to_owned())
}

fn is_good(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    pod.metadata.deletion_timestamp.is_none()
        && status.and_then(|s| s.phase.as_deref()) == Some("Running")
        && status
            .and_then(|s| s.conditions.as_ref())
            .is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
}

/// When it became ready; unknown counts as late.
fn ready_since(pod: &Pod) -> (bool, Option<String>) {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    let ready = conditions.iter().find(|c| c.type_ == "Ready");
    let since = ready.and_then(|c| c.last_transition_time.as_ref()).map(|time| time.0.to_string());
    (since.is_none(), since)
}
