package kube

import (
	"strings"
	"testing"
)

// Without TLS the Service has another port and there are no certificates, as Helm does it.
func TestObjectsWithoutTLS(t *testing.T) {
	text, err := (&Cluster{config: Config{Kubelet: "127.0.0.1:10250"}}).objects()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "    port: 80\n") || strings.Contains(string(text), "kind: Secret") {
		t.Errorf("%s", text)
	}
}
