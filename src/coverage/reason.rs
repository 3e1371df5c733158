//! Why something was missed.

use std::fmt;

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident $name:literal $words:literal)*) => {
        /// Why something was missed.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $($(#[$doc])* $variant,)*
        }

        impl Reason {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The name in files, JSON and metrics.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What happened, in a few words.
            pub fn words(self) -> &'static str {
                match self { $(Self::$variant => $words,)* }
            }

            /// From its name.
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|reason| reason.as_str() == name)
            }
        }
    };
}

reasons! {
    /// There was no stream, and the ring of the node did not reach back to its end.
    Reconnect "reconnect" "no stream, and more than Hubble remembers"
    /// cpg did not run, and the ring of the node did not reach back to its end.
    Downtime "downtime" "cpg did not run, and more than Hubble remembers"
    /// The node's part of the stream failed.
    NodeError "node_error" "the node's part of the stream failed"
    /// The relay did not reach the node, or it did not answer.
    NodeUnreachable "node_unreachable" "the relay did not reach the node"
    /// The node was not in the relay's list.
    NodeGone "node_gone" "the relay did not know the node"
    /// The agent was started anew, and with it the ring.
    AgentRestart "agent_restart" "the agent restarted: what it remembered is gone"
    /// The node came later, and its ring did not reach back to its start.
    LateJoin "late_join" "the node was read from then on only, or it is not known from when on"
    /// The relay had it connected, but did not pass on what it had.
    Unheard "unheard" "the relay did not pass on what the node had"
    /// Lost between kernel and agent.
    LostPerf "lost_perf_event_ring_buffer" "lost between kernel and agent"
    /// Lost in the agent's queue.
    LostQueue "lost_observer_events_queue" "lost in the agent: its queue was full"
    /// Overwritten before they were read.
    LostRing "lost_hubble_ring_buffer" "overwritten in Hubble's ring before they were read"
    /// Lost somewhere that Hubble does not tell.
    LostUnknown "lost_unknown" "lost by Hubble, it does not say where"
    /// A message that could not be decoded.
    Undecodable "undecodable" "messages of the relay that could not be decoded"
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
