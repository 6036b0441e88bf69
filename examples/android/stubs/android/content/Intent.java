package android.content;

public class Intent {
    public static final String ACTION_GET_CONTENT = "";
    public Intent(String action) {}
    public Intent setType(String type) { return this; }
    public android.net.Uri getData() { return null; }
    public static Intent createChooser(Intent target, CharSequence title) { return target; }
}
