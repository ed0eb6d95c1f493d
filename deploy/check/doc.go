// Command check checks the files of deploy by the code of those who read them: the Dockerfile by BuildKit's parser and
// linter, Compose's file by Compose's loader, the objects of Kubernetes by Kustomize and the API's own types, strictly.
// It is a module of its own, so that the product needs none of that, and it talks to no engine and to no cluster: what
// only those would refuse, such as an image that isn't there, it doesn't see.
package main
