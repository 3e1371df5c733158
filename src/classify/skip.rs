//! Why a drop that policy decided becomes no rule all the same. Every reason has the name that
//! operators see, and a sentence on what would help.

use std::fmt;

macro_rules! skips {
    ($($(#[doc = $doc:literal])+ $variant:ident $name:literal $advice:literal)*) => {
        /// Why a flow, or the observation it became part of, is no rule.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Skip {
            $($(#[doc = $doc])+ $variant,)*
        }

        impl Skip {
            /// Every reason, in the order of the way.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The name in summaries.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What it means for the operator, in one sentence.
            pub fn advice(self) -> &'static str {
                match self { $(Self::$variant => $advice,)* }
            }
        }
    };
}

skips! {
    /// A request that the L7 proxy refused.
    L7Denied "l7_denied" "the L7 proxy refused the request: --l7 writes rules for HTTP requests"
    /// A method or a path that no rule can be written for.
    HttpPath "http_path" "the method is none of HTTP, or the path is none that a rule can name: it does not begin with / (OPTIONS *, CONNECT), has control characters, or is longer than 2,048 bytes"
    /// Something in its path is not to be written down.
    PathSecret "path_secret" "a segment of the path looks like a token, a key or an address, and is not written: see what is held back"
    /// A name that the DNS proxy refused.
    DnsRefused "dns_refused" "the DNS proxy refused the name: as often a leak as a need; --include-refused writes rules for such names"
    /// A name that the DNS proxy refused, and that no policy can hold.
    DnsNameUnusable "dns_name_unusable" "the DNS proxy refused a name that no policy can hold: letters, digits, '-', '_' and dots only"
    /// Hubble gave no direction.
    NoDirection "no_direction" "Hubble did not say which side decided"
    /// No layer 4, or no destination port.
    NoL4 "no_l4" "the flow has no layer 4, or no destination port"
    /// A protocol that no rule of this version can name.
    UnknownProtocol "unknown_protocol" "rules name TCP, UDP, SCTP and ICMP only"
    /// A reply, or an error about an earlier packet.
    Reply "reply" "a late answer: its connection was not tracked any more; a rule would open the client's port"
    /// Not the first packet of its connection.
    MidStream "mid_stream" "a later packet of a connection: the rule that let it begin is gone, or its state was lost"
    /// TCP without flags: it cannot be told whether it opens a connection.
    FlagsUnknown "flags_unknown" "the flow carries no TCP flags; capture without a field mask that drops them"
    /// Neighbour discovery, router solicitation, multicast listener reports.
    NeighbourDiscovery "neighbour_discovery" "sent by the kernel for its own needs; Cilium answers what matters before policy"
    /// An ICMP type that cannot be named: 0 would open every type.
    IcmpTypeZero "icmp_type_zero" "type 0 in a rule means every type of the family"
    /// The target is a multicast or broadcast address.
    Multicast "multicast" "sent to a group or to everybody; a rule for the address would not help"
    /// Neither end is described.
    NilEndpoint "nil_endpoint" "Hubble described neither end"
    /// The source is not described.
    NilSource "nil_source" "Hubble did not describe the source"
    /// The destination is not described.
    NilDestination "nil_destination" "Hubble did not describe the destination"
    /// The subject is no pod.
    ReservedSubject "reserved_subject" "the subject is a node or another reserved identity: only a CiliumClusterwideNetworkPolicy can allow it"
    /// The identity was not known when the packet was dropped.
    UnknownIdentity "unknown_identity" "the identity was not known yet (0, or a word this version does not know)"
    /// A pod without a namespace.
    EmptyNamespace "empty_namespace" "a pod without a namespace: nothing to select it by"
    /// A name that Kubernetes cannot have made.
    InvalidName "invalid_name" "the namespace is not a name that Kubernetes allows"
    /// World by its labels, a pod by its address.
    WorldLabelOnPod "world_label_on_pod" "labelled as outside the cluster, but Hubble knows the address as a pod: its identity was not spread yet"
    /// World, init or unmanaged by its identity, a pod by its address.
    IdentityRace "identity_race" "init, unmanaged or outside the cluster by its identity, but Hubble shows the address as a pod's: its identity was not spread yet. What lasts comes again under the pod's own labels"
    /// The pod had other labels shortly after.
    LabelsChanged "labels_changed" "the pod had other labels within a minute, so it was starting or is being relabelled: what lasts comes again under the labels that stay"
    /// World without an address.
    WorldNoIp "world_no_ip" "outside the cluster, but the flow has no usable address"
    /// Nothing stable to select by.
    NoUsableLabel "no_usable_label" "no label that outlives the pod: give the workload one (app.kubernetes.io/name), or use a CiliumClusterwideNetworkPolicy"
    /// Audit mode let pass what a deny rule forbids, or what an allow rule wants authenticated.
    AuditDenied "audit_denied" "audit mode let pass what a deny rule forbids or what has to be authenticated first; no allow rule helps once audit mode is off"
    /// Only drop events told it, and the verdict of the same connection says another direction.
    DirectionContradicted "direction_contradicted" "a drop event alone said so, and the policy verdict of the same connection says otherwise"
    /// A policy of the directory allows it.
    AlreadyAllowed "already_allowed" "a policy in the output directory allows it: not applied yet, or the drop was transient"
    /// A policy of the cluster allows it by now.
    AlreadyAllowedInCluster "already_allowed_in_cluster" "a policy in the cluster allows it by now: it was applied after the drop"
    /// A policy of the cluster allowed it long before it was dropped.
    TransientDespitePolicy "transient_despite_policy" "a policy in the cluster had allowed it for more than a minute: the endpoint was regenerating, its identity was not spread yet, or the policy is not realized on that node (cilium-dbg endpoint list)"
    /// A deny rule of a policy of the directory or of the cluster decides it.
    ExplicitDeny "explicit_deny" "a deny rule in the output directory or in the cluster decides it; no allow rule can win over it"
    /// Too many addresses outside of the cluster on one port.
    WorldLimit "world_limit" "one of many addresses outside of the cluster on one port: held back, see below for what could be written (--world-limit)"
    /// Not seen often or long enough.
    Pending "pending" "not seen often or long enough yet (--min-connections, --settle): listed below, and with --state-dir the next run goes on counting"
    /// The table of what is pending is full.
    PendingFull "pending_full" "too many needs are pending: narrow the run with --namespace, or ask for less with --min-connections or --settle"
    /// Outside the cluster and without a name, where only names are wanted.
    UnnamedWorld "unnamed_world" "an address outside the cluster that no DNS name is known of; --fqdn auto writes the address"
    /// A resolver that is not the cluster's.
    ForeignResolver "foreign_resolver" "a DNS server that is not the cluster's own: a leak, unless it is meant; --resolver says that it is"
    /// A rule for names that would narrow what people allowed.
    NarrowsResolver "narrows_resolver" "a rule for DNS names would take away lookups that a wider rule allows now"
    /// The engine did not confirm the rule.
    Unconfirmed "unconfirmed" "a fault of cpg: the rule would not have allowed this flow and was not written; please report it"
    /// One source used up its share of the table of observations.
    SourceFull "source_full" "its source made too many different observations in one window: a scan? The others are still learned"
    /// The table of observations is full.
    LedgerFull "ledger_full" "too many different observations in one window: narrow the run with --namespace"
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
