{{- define "banyan.name" -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* Two releases of one name in two namespaces have two. */}}
{{- define "banyan.webhook" -}}
{{ .Release.Namespace }}-{{ include "banyan.name" . }}-inject
{{- end -}}

{{- define "banyan.labels" -}}
{{ include "banyan.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "banyan.selector" -}}
app.kubernetes.io/name: banyan
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "banyan.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "banyan.nodeAgent" -}}
{{ include "banyan.name" . }}-node
{{- end -}}

{{/* Not that of the servers, whose Service takes all that have it. */}}
{{- define "banyan.nodeSelector" -}}
app.kubernetes.io/name: banyan-node
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Accounts that answer for their node: as JSON. */}}
{{- define "banyan.nodeAccounts" -}}
{{- $accounts := .Values.authentication.nodeAccounts -}}
{{- if .Values.nodeAgent.enabled -}}
{{- $accounts = append $accounts (printf "system:serviceaccount:%s:%s" .Values.nodeAgent.namespace (include "banyan.nodeAgent" .)) | uniq -}}
{{- end -}}
{{ $accounts | toJson }}
{{- end -}}

{{/* What every container may do: nothing but run. */}}
{{- define "banyan.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: { drop: [ALL] }
seccompProfile: { type: RuntimeDefault }
{{- end -}}

{{/* Gives the servers' account the role of a part, in one namespace. */}}
{{- define "banyan.roleBinding" }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: {{ include "banyan.name" .root }}-{{ .part }}
  namespace: {{ .namespace }}
  labels: {{- include "banyan.labels" .root | nindent 4 }}
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: Role, name: {{ include "banyan.name" .root }}-{{ .part }} }
subjects:
  - { kind: ServiceAccount, name: {{ include "banyan.name" .root }}, namespace: {{ .root.Release.Namespace }} }
{{- end }}

{{/* A role of the whole cluster, and who has it. Two releases of one name in two namespaces have two. */}}
{{- define "banyan.clusterRole" }}
{{- $role := printf "%s-%s-%s" .root.Release.Namespace (include "banyan.name" .root) .part }}
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: {{ $role }}
  labels: {{- include "banyan.labels" .root | nindent 4 }}
rules: {{- toYaml .rules | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: {{ $role }}
  labels: {{- include "banyan.labels" .root | nindent 4 }}
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {{ $role }} }
subjects:
  - { kind: ServiceAccount, name: {{ include "banyan.name" .root }}, namespace: {{ .root.Release.Namespace }} }
{{- end }}
