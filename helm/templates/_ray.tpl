{{- /* The release of Ray in the image: constraints.txt pins it, and a test compares the two. */ -}}
{{- define "plora.rayVersion" -}}
2.60.0
{{- end }}

{{- /* What Serve runs: two applications, whose args are the fields of daemon/trainer_order.py. */ -}}
{{- define "plora.serveConfig" -}}
{{- $settings := .Values.settings -}}
{{- $trainer := .Values.ray.trainer -}}
{{- $predictor := .Values.ray.predictor -}}
{{- $shared := dict "model" $settings.model "kind" $settings.modelKind "max_tokens" (int $settings.maxTokens) "device" $settings.device "recycle" (int $settings.trainerRecycle) -}}
{{- with $settings.modelRevision }}{{ $_ := set $shared "revision" . }}{{ end -}}
{{- with (($settings.otlp).endpoint) }}{{ $_ := set $shared "otlp" . }}{{ end -}}
proxy_location: EveryNode
http_options:
  host: 0.0.0.0
  port: 8000
logging_config:
  encoding: JSON
  log_level: WARNING
  enable_access_log: false
applications:
  - name: trainer
    route_prefix: /
    import_path: daemon.trainer:build_trainer
    args:
      {{- toYaml (merge (dict "replicas" (int $trainer.replicas) "most_replicas" (int $trainer.mostReplicas) "cpus" $trainer.cpus "gpu_share" $trainer.gpuShare "threads" (int $settings.threads | default (int $trainer.cpus) | max 1) "basis_workers" (max 1 (int $settings.basis.workers)) "spool" (ternary "/spool" "" (ne .Values.ray.spoolClaim ""))) $shared) | nindent 6 }}
  - name: predictor
    route_prefix: /predict
    import_path: daemon.trainer:build_predictor
    args:
      {{- toYaml (merge (dict "predictors" (int $predictor.replicas) "cpus" $predictor.cpus "gpu_share" $predictor.gpuShare "threads" (int $settings.threads | default (int $predictor.cpus) | max 1)) $shared) | nindent 6 }}
{{- end }}

{{- /* A pod of Ray: (dict "root" $ "kind" "head|cpu|gpu" "component" ... "pods" ... "account" ...) */ -}}
{{- define "plora.rayPod" -}}
{{- $root := .root -}}
{{- $ray := $root.Values.ray -}}
{{- $scaling := and (eq .kind "head") $ray.autoscaling.enabled -}}
metadata:
  labels:
    {{- include "plora.podLabels" . | nindent 4 }}
  {{- with .pods.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- include "plora.pullSecrets" $root | indent 2 }}
  serviceAccountName: {{ include "plora.account" . }}
  automountServiceAccountToken: {{ if $scaling }}true{{ else }}false{{ end }}
  enableServiceLinks: false
  {{- if $ray.autoscaling.enabled }}
  restartPolicy: Never
  {{- end }}
  terminationGracePeriodSeconds: 120
  securityContext:
    {{- include "plora.podSecurity" $root | nindent 4 }}
  {{- include "plora.placement" . | nindent 2 }}
  containers:
    - name: ray-{{ if eq .kind "head" }}head{{ else }}worker{{ end }}
      image: {{ include "plora.image" (dict "root" $root "gpu" (eq .kind "gpu")) }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      ports:
        {{- if eq .kind "head" }}
        - {name: gcs-server, containerPort: 6379}
        - {name: dashboard, containerPort: 8265}
        - {name: as-metrics, containerPort: 44217}
        - {name: dash-metrics, containerPort: 44227}
        {{- end }}
        - {name: serve, containerPort: 8000}
        - {name: metrics, containerPort: 8080}
        - {name: agent, containerPort: 52365}
      env:
        - name: HOME
          value: /tmp
        - name: PYTHONPATH
          value: /app
        - name: PLORA_TRANSPORT_KEY_FILE
          value: /transport/transport.key
        - name: RAY_gcs_rpc_server_reconnect_timeout_s
          value: {{ $ray.reconnectSeconds | quote }}
        - name: RAY_AUTH_MODE
          value: {{ if and $ray.auth.enabled (ne $ray.kuberayVersion "1.4") }}token{{ else }}disabled{{ end }}
        {{- if and $ray.auth.enabled (not (has $ray.kuberayVersion (list "1.4" "1.5"))) }}
        - name: RAY_AUTH_TOKEN
          valueFrom:
            secretKeyRef:
              name: {{ $ray.auth.existingSecret }}
              key: auth_token
        {{- end }}
        {{- with .pods.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- if eq .kind "head" }}
      livenessProbe:
        httpGet: {path: /api/gcs_healthz, port: dashboard}
        initialDelaySeconds: 30
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 12
      readinessProbe:
        httpGet: {path: /api/gcs_healthz, port: dashboard}
        periodSeconds: 5
        timeoutSeconds: 5
      {{- else }}
      livenessProbe:
        httpGet: {path: /api/local_raylet_healthz, port: agent}
        initialDelaySeconds: 30
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 12
      readinessProbe:
        httpGet: {path: /-/healthz, port: serve}
        periodSeconds: 5
        timeoutSeconds: 5
      {{- end }}
      lifecycle:
        preStop:
          exec:
            command: ["/bin/sh", "-c", "ray stop"]
      securityContext:
        {{- include "plora.containerSecurity" $root | nindent 8 }}
      resources:
        {{- if eq .kind "gpu" }}
        {{- $gpu := dict .pods.gpuResource .pods.gpus }}
        {{- toYaml (merge (dict "requests" (merge $gpu (.pods.resources.requests | default dict)) "limits" (merge (dict .pods.gpuResource .pods.gpus) (.pods.resources.limits | default dict))) .pods.resources) | nindent 8 }}
        {{- else }}
        {{- toYaml .pods.resources | nindent 8 }}
        {{- end }}
      volumeMounts:
        - name: tmp
          mountPath: /tmp
        - name: ray-logs
          mountPath: /tmp/ray
        - name: shm
          mountPath: /dev/shm
        - name: transport
          mountPath: /transport
          readOnly: true
        {{- if and $ray.spoolClaim (ne .kind "head") }}
        - name: spool
          mountPath: /spool
        {{- end }}
        {{- with .pods.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: tmp
      emptyDir: {}
    - name: ray-logs
      emptyDir: {}
    - name: shm
      emptyDir:
        medium: Memory
        sizeLimit: 1Gi
    - name: transport
      secret:
        secretName: {{ $ray.transportKeysSecret }}
        defaultMode: 0440
    {{- if and $ray.spoolClaim (ne .kind "head") }}
    - name: spool
      persistentVolumeClaim:
        claimName: {{ $ray.spoolClaim }}
    {{- end }}
    {{- with .pods.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}
