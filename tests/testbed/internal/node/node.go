// Package node is one node's Hubble as the agent runs it: the real observer with its ring, its real
// parser and its gRPC server. Only the source of the events is not real: they come from the
// control server instead of the kernel.
//
// It must be a process of its own, because Cilium keeps the node's name (environment variable
// K8S_NODE_NAME) in a variable of the whole process.
package node

import (
	"flag"

	"cpg.test/testbed/internal/part"

	"github.com/cilium/cilium/pkg/hubble/container"
	"github.com/cilium/cilium/pkg/hubble/observer"
	"github.com/cilium/cilium/pkg/hubble/observer/namespace"
	"github.com/cilium/cilium/pkg/hubble/observer/observeroption"
	"github.com/cilium/cilium/pkg/hubble/server"
	"github.com/cilium/cilium/pkg/hubble/server/serveroption"
	nodeTypes "github.com/cilium/cilium/pkg/node/types"
	"github.com/cilium/cilium/pkg/time"
)

type settings struct {
	listen, control string
	endpoints       string
	ring, seed      int
	tls             part.TLS
}

// Main runs a node until SIGTERM.
func Main(args []string) int {
	var s settings
	flags := flag.NewFlagSet("node", flag.ExitOnError)
	flags.StringVar(&s.listen, "listen", "", "address of Hubble's server")
	flags.StringVar(&s.control, "control", "", "address of the control server")
	flags.StringVar(&s.endpoints, "endpoints", "", "file that keeps the registered endpoints over a restart")
	flags.IntVar(&s.ring, "ring", 4095, "events that the ring holds: 2^n-1, at most 65535")
	flags.IntVar(&s.seed, "seed", 2, "agent events written at the start; with fewer than 2 a follower gets nothing until the ring has wrapped")
	s.tls.Register(flags)
	_ = flags.Parse(args)

	if err := run(s); err != nil {
		return part.Fail(err)
	}
	return 0
}

func run(s settings) error {
	log := part.Log()
	capacity, err := container.NewCapacity(s.ring)
	if err != nil {
		return err
	}
	endpoints, err := loadRegistry(nodeTypes.GetName(), s.endpoints)
	if err != nil {
		return err
	}
	decode, err := newDecoder(log, endpoints)
	if err != nil {
		return err
	}
	following := &followers{}
	obs, err := observer.NewLocalServer(decode, namespace.NewManager(), log,
		observeroption.WithMaxFlows(capacity), observeroption.WithLostEventSendInterval(time.Second),
		observeroption.WithOnGetFlows(following))
	if err != nil {
		return err
	}
	go obs.Start()

	source := &source{events: obs.GetEventsChannel(), node: nodeTypes.GetAbsoluteNodeName()}
	if err := source.fill(s.seed); err != nil {
		return err
	}

	security, err := s.tls.Option(log)
	if err != nil {
		return err
	}
	srv, err := server.NewServer(log, serveroption.WithTCPListener(s.listen), serveroption.WithHealthService(),
		serveroption.WithObserverService(obs), security)
	if err != nil {
		return err
	}
	if _, err := part.Listen(s.control, routes(source, endpoints, obs, following)); err != nil {
		return err
	}

	ctx, stop := part.Terminated()
	defer stop()
	go func() {
		<-ctx.Done()
		srv.Stop()
	}()
	return srv.Serve()
}
