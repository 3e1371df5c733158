// Package apiserver is the real kube-apiserver: its command with the arguments of the supervisor.
package apiserver

import (
	"fmt"

	"k8s.io/component-base/cli"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

// Main runs kube-apiserver with args.
func Main(args []string) error {
	command := app.NewAPIServerCommand()
	command.SetArgs(args)
	if code := cli.Run(command); code != 0 {
		return fmt.Errorf("kube-apiserver ended with code %d", code)
	}
	return nil
}
