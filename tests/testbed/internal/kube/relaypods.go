package kube

import (
	"context"
	"fmt"
	"net"
	"runtime/debug"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

const relaySelector = "k8s-app=hubble-relay"

// RelayPodState is one pod as the control channel shows it.
type RelayPodState struct {
	Name        string `json:"name"`
	Ready       bool   `json:"ready"`
	Terminating bool   `json:"terminating,omitempty"`
}

// RelayPod changes the pods of the relay as a Deployment's controller and the kubelet would, keeps
// the Endpoints object in step, and returns the pods that there are then. The process of the relay
// goes on. A pod that goes takes its port-forwards along, unless keep is set.
func (c *Cluster) RelayPod(ctx context.Context, action string, keep bool) ([]RelayPodState, error) {
	c.pods.Lock()
	defer c.pods.Unlock()
	pods, err := c.relayPods(ctx)
	if err != nil {
		return nil, err
	}
	switch action {
	case "replace":
		if err := c.deletePods(ctx, pods, 0, keep); err != nil {
			return nil, err
		}
		err = c.createPod(ctx, true)
	case "ready":
		if err = c.setReady(ctx, pods, true); err == nil && len(pods) == 0 {
			err = c.createPod(ctx, true)
		}
	case "unready":
		err = c.setReady(ctx, pods, false)
	case "delete":
		err = c.deletePods(ctx, pods, 0, keep)
	case "terminate":
		err = c.deletePods(ctx, pods, 30, true)
	case "add":
		err = c.createPod(ctx, true)
	case "add-unready":
		err = c.createPod(ctx, false)
	default:
		err = fmt.Errorf("action %q is not replace, ready, unready, delete, terminate, add or add-unready", action)
	}
	if err != nil {
		return nil, err
	}
	if pods, err = c.relayPods(ctx); err != nil {
		return nil, err
	}
	states := []RelayPodState{}
	for _, pod := range pods {
		states = append(states, RelayPodState{Name: pod.Name, Ready: isReady(pod), Terminating: pod.DeletionTimestamp != nil})
	}
	return states, c.setEndpoints(ctx, pods)
}

func (c *Cluster) relayPods(ctx context.Context) ([]corev1.Pod, error) {
	list, err := c.core.CoreV1().Pods(ciliumNamespace).List(ctx, metav1.ListOptions{LabelSelector: relaySelector})
	if err != nil {
		return nil, err
	}
	return list.Items, nil
}

func (c *Cluster) deletePods(ctx context.Context, pods []corev1.Pod, grace int64, keep bool) error {
	for _, pod := range pods {
		err := c.core.CoreV1().Pods(ciliumNamespace).Delete(ctx, pod.Name, metav1.DeleteOptions{GracePeriodSeconds: &grace})
		if err != nil {
			return err
		}
		if keep {
			continue
		}
		// Without a kubelet there are no forwards either.
		_ = c.config.Cut(ctx, pod.Namespace+"/"+pod.Name)
	}
	return nil
}

// createPod makes a running pod of the relay on the testbed's node.
func (c *Cluster) createPod(ctx context.Context, ready bool) error {
	ip, port, err := c.relayAddress()
	if err != nil {
		return err
	}
	c.podsMade++
	image := relayImage()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: fmt.Sprintf("hubble-relay-7b9c4d5f6-%05d", c.podsMade), Namespace: ciliumNamespace,
			Labels: map[string]string{
				"k8s-app": "hubble-relay", "app.kubernetes.io/name": "hubble-relay",
				"app.kubernetes.io/part-of": "cilium", "pod-template-hash": "7b9c4d5f6",
			},
		},
		Spec: corev1.PodSpec{
			NodeName:                      nodeName,
			TerminationGracePeriodSeconds: ptr.To(int64(1)),
			AutomountServiceAccountToken:  ptr.To(false),
			Containers: []corev1.Container{{
				Name: "hubble-relay", Image: image, Command: []string{"hubble-relay"}, Args: []string{"serve"},
				Ports: []corev1.ContainerPort{{Name: "grpc", ContainerPort: port, Protocol: corev1.ProtocolTCP}},
			}},
		},
	}
	pods := c.core.CoreV1().Pods(ciliumNamespace)
	stored, err := pods.Create(ctx, pod, metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict})
	if err != nil {
		return err
	}
	now := metav1.NewTime(time.Now())
	stored.Status = corev1.PodStatus{
		Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}}, HostIP: ip, StartTime: &now,
		ContainerStatuses: []corev1.ContainerStatus{{
			Name: "hubble-relay", Image: image, ImageID: image, ContainerID: "testbed://relay", Started: ptr.To(true),
			State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}},
		}},
	}
	for _, kind := range []corev1.PodConditionType{corev1.PodScheduled, corev1.PodInitialized} {
		stored.Status.Conditions = append(stored.Status.Conditions,
			corev1.PodCondition{Type: kind, Status: corev1.ConditionTrue, LastTransitionTime: now})
	}
	markReady(stored, ready)
	_, err = pods.UpdateStatus(ctx, stored, metav1.UpdateOptions{})
	return err
}

func (c *Cluster) setReady(ctx context.Context, pods []corev1.Pod, ready bool) error {
	for _, pod := range pods {
		if isReady(pod) == ready {
			continue
		}
		markReady(&pod, ready)
		if _, err := c.core.CoreV1().Pods(ciliumNamespace).UpdateStatus(ctx, &pod, metav1.UpdateOptions{}); err != nil {
			return err
		}
	}
	return nil
}

func isReady(pod corev1.Pod) bool {
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}

func markReady(pod *corev1.Pod, ready bool) {
	var kept []corev1.PodCondition
	for _, condition := range pod.Status.Conditions {
		if condition.Type != corev1.PodReady && condition.Type != corev1.ContainersReady {
			kept = append(kept, condition)
		}
	}
	status, reason := corev1.ConditionTrue, ""
	if !ready {
		status, reason = corev1.ConditionFalse, "ContainersNotReady"
	}
	for _, kind := range []corev1.PodConditionType{corev1.ContainersReady, corev1.PodReady} {
		kept = append(kept, corev1.PodCondition{Type: kind, Status: status, Reason: reason, LastTransitionTime: metav1.NewTime(time.Now())})
	}
	pod.Status.Conditions = kept
	for i := range pod.Status.ContainerStatuses {
		pod.Status.ContainerStatuses[i].Ready = ready
	}
}

// endpointAddress stands in for the relay's address in Endpoints, where the API server refuses those
// of the loopback network.
const endpointAddress = "192.0.2.10"

// setEndpoints writes the Endpoints of the Service, as the controller manager would.
func (c *Cluster) setEndpoints(ctx context.Context, pods []corev1.Pod) error {
	_, port, err := c.relayAddress()
	if err != nil {
		return err
	}
	subset := corev1.EndpointSubset{Ports: []corev1.EndpointPort{{Port: port, Protocol: corev1.ProtocolTCP}}}
	for _, pod := range pods {
		address := corev1.EndpointAddress{
			IP: endpointAddress, NodeName: ptr.To(nodeName),
			TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
		}
		switch {
		case pod.DeletionTimestamp != nil:
		case isReady(pod):
			subset.Addresses = append(subset.Addresses, address)
		default:
			subset.NotReadyAddresses = append(subset.NotReadyAddresses, address)
		}
	}
	object := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{
		Name: "hubble-relay", Namespace: ciliumNamespace, Labels: map[string]string{"k8s-app": "hubble-relay"},
	}}
	if len(subset.Addresses)+len(subset.NotReadyAddresses) > 0 {
		object.Subsets = []corev1.EndpointSubset{subset}
	}
	_, err = c.core.CoreV1().Endpoints(ciliumNamespace).Update(ctx, object, metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) {
		_, err = c.core.CoreV1().Endpoints(ciliumNamespace).Create(ctx, object, metav1.CreateOptions{})
	}
	return err
}

func (c *Cluster) relayAddress() (host string, port int32, err error) {
	host, text, err := net.SplitHostPort(c.config.Relay)
	if err != nil {
		return "", 0, err
	}
	n, err := strconv.ParseInt(text, 10, 32)
	return host, int32(n), err
}

// relayImage names the image of the release that this program is linked from.
func relayImage() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, module := range info.Deps {
			if module.Path == "github.com/cilium/cilium" {
				return "cilium/hubble-relay:" + module.Version
			}
		}
	}
	return "cilium/hubble-relay"
}
