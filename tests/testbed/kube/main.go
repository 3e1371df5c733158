// Command testbed-kube holds the parts of Kubernetes that "testbed up -kube" starts as processes:
// etcd, the API server and the part of a kubelet that forwards ports. It is a program of its own,
// because k8s.io/kubernetes takes longer to build than everything else together and most tests do
// without. README.md of the directory above describes it.
package main

import (
	"fmt"
	"os"

	"cpg.test/testbed/kube/apiserver"
	"cpg.test/testbed/kube/etcd"
	"cpg.test/testbed/kube/kubelet"
)

func main() {
	if len(os.Args) > 1 {
		var err error
		switch args := os.Args[2:]; os.Args[1] {
		case "etcd":
			err = etcd.Main(args)
		case "apiserver":
			err = apiserver.Main(args)
		case "kubelet":
			err = kubelet.Main(args)
		default:
			usage()
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "testbed-kube:", err)
			os.Exit(2)
		}
		return
	}
	usage()
}

func usage() {
	fmt.Fprintln(os.Stderr, "usage: testbed-kube apiserver|etcd|kubelet [arguments]")
	os.Exit(2)
}
