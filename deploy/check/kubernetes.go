package main

import (
	"context"
	"fmt"
	"path/filepath"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// cluster is what the objects say of one another.
type cluster struct {
	wrong
	pods      map[string]corev1.PodTemplateSpec
	maps      map[string]bool
	issued    map[string]bool // secrets that hold certificates
	workloads map[string]bool
}

// checkKubernetes renders the kustomization and reads each object by its type: a field that the API doesn't know is a
// mistake there. Then it looks whether what they name is there.
func checkKubernetes(_ context.Context, name string) (string, error) {
	rendered, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), filepath.Dir(name))
	if err != nil {
		return "", err
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		appsv1.AddToScheme, autoscalingv2.AddToScheme, batchv1.AddToScheme, corev1.AddToScheme, networkingv1.AddToScheme, policyv1.AddToScheme, certmanagerv1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			return "", err
		}
	}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	c := &cluster{pods: map[string]corev1.PodTemplateSpec{}, maps: map[string]bool{}, issued: map[string]bool{}, workloads: map[string]bool{}}
	var objects []runtime.Object
	for _, resource := range rendered.Resources() {
		text, err := resource.AsYAML()
		if err != nil {
			return "", err
		}
		object, _, err := decoder.Decode(text, nil, nil)
		if err != nil {
			c.add("%s %s: %w", resource.GetKind(), resource.GetName(), err)
			continue
		}
		c.note(object)
		objects = append(objects, object)
	}
	for _, object := range objects {
		c.look(object)
	}
	for name, pod := range c.pods {
		c.lookAtPod(name, pod.Spec)
	}
	return fmt.Sprintf("%d objects, %d kinds of pods", len(objects), len(c.pods)), c.err()
}

// note keeps what others may name.
func (c *cluster) note(object runtime.Object) {
	switch o := object.(type) {
	case *appsv1.Deployment:
		c.pods[o.Name], c.workloads["Deployment "+o.Name] = o.Spec.Template, true
		c.selects("deployment "+o.Name, o.Spec.Selector, map[string]corev1.PodTemplateSpec{o.Name: o.Spec.Template})
	case *appsv1.StatefulSet:
		c.pods[o.Name], c.workloads["StatefulSet "+o.Name] = o.Spec.Template, true
		c.selects("stateful set "+o.Name, o.Spec.Selector, map[string]corev1.PodTemplateSpec{o.Name: o.Spec.Template})
	case *batchv1.Job:
		c.pods[o.Name] = o.Spec.Template
	case *certmanagerv1.Certificate:
		c.issued[o.Spec.SecretName] = true
	case *corev1.ConfigMap:
		c.maps[o.Name] = true
	}
}

// look wants selectors to find pods, and targets to be there.
func (c *cluster) look(object runtime.Object) {
	switch o := object.(type) {
	case *policyv1.PodDisruptionBudget:
		c.selects("disruption budget "+o.Name, o.Spec.Selector, c.pods)
	case *autoscalingv2.HorizontalPodAutoscaler:
		if target := o.Spec.ScaleTargetRef.Kind + " " + o.Spec.ScaleTargetRef.Name; !c.workloads[target] {
			c.add("autoscaler %s: there is no %s", o.Name, target)
		}
	case *networkingv1.NetworkPolicy:
		c.lookAtPolicy(o)
	case *corev1.Service:
		if o.Spec.Type == corev1.ServiceTypeExternalName {
			return
		}
		for _, pod := range c.selects("service "+o.Name, metav1.SetAsLabelSelector(o.Spec.Selector), c.pods) {
			for _, p := range o.Spec.Ports {
				if !opens(pod.Spec, p.Port) {
					c.add("service %s: its pods have no port %d", o.Name, p.Port)
				}
			}
		}
	}
}

func (c *cluster) lookAtPolicy(o *networkingv1.NetworkPolicy) {
	to := c.selects("network policy "+o.Name, &o.Spec.PodSelector, c.pods)
	for _, rule := range o.Spec.Ingress {
		for _, port := range rule.Ports {
			for _, pod := range to {
				if len(pod.Spec.Containers[0].Ports) > 0 && !opens(pod.Spec, port.Port.IntVal) {
					c.add("network policy %s: its pods have no port %s", o.Name, port.Port)
				}
			}
		}
	}
}

// selects are the pods that a selector finds; none is a mistake.
func (c *cluster) selects(who string, by *metav1.LabelSelector, pods map[string]corev1.PodTemplateSpec) []corev1.PodTemplateSpec {
	selector, err := metav1.LabelSelectorAsSelector(by)
	if err != nil {
		c.add("%s: %w", who, err)
		return nil
	}
	var found []corev1.PodTemplateSpec
	for _, pod := range pods {
		if selector.Matches(labels.Set(pod.Labels)) {
			found = append(found, pod)
		}
	}
	if len(found) == 0 {
		c.add("%s selects no pods", who)
	}
	return found
}

func opens(pod corev1.PodSpec, port int32) bool {
	for _, p := range pod.Containers[0].Ports {
		if p.ContainerPort == port {
			return true
		}
	}
	return false
}

// lookAtPod wants what the pod security standard "restricted" wants, and volumes that are there.
func (c *cluster) lookAtPod(name string, pod corev1.PodSpec) {
	is := func(b *bool, want bool) bool { return b != nil && *b == want }
	if s := pod.SecurityContext; s == nil || !is(s.RunAsNonRoot, true) || s.SeccompProfile == nil || s.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
		c.add("pods of %s may run as root, or without seccomp", name)
	}
	volumes := map[string]bool{}
	for _, v := range pod.Volumes {
		volumes[v.Name] = true
		if v.ConfigMap != nil && !c.maps[v.ConfigMap.Name] {
			c.add("pods of %s: there is no config map %s", name, v.ConfigMap.Name)
		}
		if v.Name == "tls" && (v.Secret == nil || !c.issued[v.Secret.SecretName]) {
			c.add("pods of %s: no certificate is issued for them", name)
		}
	}
	for _, container := range pod.Containers {
		s := container.SecurityContext
		if s == nil || !is(s.AllowPrivilegeEscalation, false) || !is(s.ReadOnlyRootFilesystem, true) || s.Capabilities == nil || len(s.Capabilities.Drop) != 1 || s.Capabilities.Drop[0] != "ALL" {
			c.add("pods of %s: container %s may have privileges, or write into its image", name, container.Name)
		}
		for _, m := range container.VolumeMounts {
			if !volumes[m.Name] && m.Name != "data" { // claimed by a stateful set
				c.add("pods of %s: there is no volume %s", name, m.Name)
			}
		}
		for _, probe := range []*corev1.Probe{container.StartupProbe, container.LivenessProbe, container.ReadinessProbe} {
			if probe != nil && !names(container, probe.HTTPGet.Port.StrVal) {
				c.add("pods of %s: a probe asks at the port %s, which isn't there", name, probe.HTTPGet.Port.StrVal)
			}
		}
	}
}

func names(container corev1.Container, port string) bool {
	for _, p := range container.Ports {
		if p.Name == port {
			return true
		}
	}
	return false
}
