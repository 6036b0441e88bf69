package android.app;

public class Activity extends android.content.Context {
    protected void onCreate(android.os.Bundle state) {}
    protected void onDestroy() {}
    protected void onActivityResult(int request, int status, android.content.Intent data) {}
    public void startActivityForResult(android.content.Intent intent, int request) {}
    public void setContentView(android.view.View view) {}
    public final void runOnUiThread(Runnable action) {}
}
